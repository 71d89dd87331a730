//! The real image on emulated machines without a network card: a stick is all they have. The run comes to a verdict, its
//! results are on the stick and can be imported; a stick with a mistake, or one that cannot be written, is told.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use vetting_image::lab::{Boot, DirectBoot, Disk, DiskBus, Machine, MachineBuilder};
use vetting_tests::machines::emulated_quick;
use vetting_tests::site::Built;

/// Bounds only how long a broken build hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// Runs a host program to its end; gives what it printed.
fn run(program: &Path, words: &[&str], folder: &Path) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(words)
        .current_dir(folder)
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {words:?}: {text}{complaints}", program.display());
    Ok(text)
}

/// A stick with these files in its top folder, below `folder`.
fn stick(folder: &Path, files: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
    let image = folder.join("stick.img");
    std::fs::File::create(&image)?.set_len(64 * 1024 * 1024)?;
    run(Path::new("mkfs.vfat"), &["-F", "32", "-n", "VETTING", "stick.img"], folder)?;
    for (name, text) in files {
        if let Some((parent, _)) = name.split_once('/') {
            run(Path::new("mmd"), &["-i", "stick.img", &format!("::{parent}")], folder)?;
        }
        std::fs::write(folder.join("file"), text)?;
        run(Path::new("mcopy"), &["-i", "stick.img", "file", &format!("::{name}")], folder)?;
    }
    Ok(image)
}

/// A machine with one disk, that stick, and no network card.
fn machine(folder: &Path, stick: &Path, read_only: bool) -> anyhow::Result<Machine> {
    let built = Built::find()?;
    let boot = Boot::Direct(DirectBoot {
        kernel: built.image.join("vmlinuz"),
        initrd: built.image.join("initrd.zst"),
        append: "console=ttyS0,115200n8 panic=30 loglevel=4 vetting.medium=VETTING".to_owned(),
    });
    let drive = format!(
        "if=none,id=stick,format=raw,file={},readonly={}",
        stick.display(),
        if read_only { "on" } else { "off" }
    );
    let usb = ["-device", "qemu-xhci", "-drive", &drive, "-device", "usb-storage,drive=stick,removable=on"];
    Ok(MachineBuilder::new("alone", &folder.join("alone"), boot)
        .without_network()
        .smbios(1, &[("manufacturer", "Vetting Lab"), ("product", "Emulated Server"), ("serial", "SN-ALONE")])
        .disk(Disk::new(DiskBus::Sata, "LAB-0009", 128).model("LAB HDD 128"))
        .extra_args(usb)
        .power_on()?)
}

#[test]
fn qemu_a_machine_alone_leaves_its_report_on_the_stick() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let quick = emulated_quick()?;
    let image = stick(
        folder,
        &[
            ("vetting.yaml", "mode: offline\nprofile: quick\nstart: auto\n"),
            ("spec.yaml", "cpu: {logical_cores: 2}\ndisks: [{size_gb: {min: 0.1}}]\n"),
            ("profiles/quick.yaml", &quick),
        ],
    )?;
    let mut machine = machine(folder, &image, false)?;
    machine.wait_for("VERDICT:", PATIENCE)?;
    machine.wait_for("results: results/", PATIENCE)?;
    machine.type_serial(b"o\n")?;
    machine.wait_exit(PATIENCE).context("the machine switches itself off")?;
    let console = machine.serial().text();
    assert!(console.contains("VERDICT: PASS   machine SN-ALONE"), "{console}");
    assert!(console.contains("NOT the shipped one"), "{console}");

    run(Path::new("mcopy"), &["-s", "-i", "stick.img", "::results", "."], folder)?;
    let built = Built::find()?;
    std::fs::write(folder.join("vetting.yaml"), "state_dir: ./var\n")?;
    let imported = run(&built.coordinator, &["import", "."], folder)?;
    assert!(imported.contains("PASS, is run 1 of SN-ALONE, which is registered now"), "{imported}");
    let again = run(&built.coordinator, &["import", "results"], folder)?;
    assert!(again.contains("was imported before as run 1 of SN-ALONE; nothing was done"), "{again}");
    let html = std::fs::read_to_string(folder.join("var/artifacts/run-1/report.html"))?;
    assert!(html.contains("LAB HDD 128") && html.contains("changed: not the shipped one"));
    Ok(())
}

#[test]
fn qemu_a_stick_with_a_mistake_that_cannot_be_written_either_is_told() -> anyhow::Result<()> {
    let profile = "name: quick
description: only what the machine is made of
sampling_interval: 5s
stages:
  - {stage: Inventory, limit: 2m}
thresholds: []
";
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let files = [("vetting.yaml", "mode: auto\nprofil: quick\n"), ("profiles/quick.yaml", profile)];
    let mut machine = machine(folder, &stick(folder, &files)?, true)?;
    machine.wait_for("vetting.yaml: line 2, column 1: profil: unknown field", PATIENCE)?;
    machine.wait_for("read the stick's settings again", PATIENCE)?;
    machine.type_serial(b"1\n")?;
    machine.wait_for("*1  profile quick", PATIENCE)?;
    machine.type_serial(b"s\n")?;
    machine.wait_for("VERDICT: PASS   machine SN-ALONE", PATIENCE)?;
    machine.wait_for("THE RESULTS ARE NOT ON THE STICK", PATIENCE)?;
    machine.type_serial(b"o\n")?;
    machine.wait_exit(PATIENCE).context("the machine switches itself off")?;
    Ok(())
}
