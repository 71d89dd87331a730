//! The boot menus of disc and stick, and what they tell the kernel.
//!
//! Nobody waits for a menu: the machine starts at once, or after the one second in which GRUB looks for a key. The
//! second entry opens root shells for finding faults.

use super::LABEL;

/// The kernel's command line: both consoles, and what the agent finds its medium by.
fn command_line() -> String {
    format!("vetting.medium={LABEL} console=tty0 console=ttyS0,115200n8 panic=30 loglevel=4")
}

/// `grub.cfg` for UEFI machines. Escape within its second shows the menu.
pub fn grub() -> String {
    let line = command_line();
    format!(
        "# A machine without a serial port must not lose its screen.
if serial --unit=0 --speed=115200; then
  terminal_input console serial
  terminal_output console serial
fi
set timeout_style=hidden
set timeout=1
set default=0
menuentry \"Vet this machine\" {{
  linux /live/vmlinuz {line}
  initrd /live/initrd.zst
}}
menuentry \"Vet this machine, with root shells on its consoles\" {{
  linux /live/vmlinuz {line} vetting.shell
  initrd /live/initrd.zst
}}
"
    )
}

/// `isolinux.cfg` and `syslinux.cfg` for BIOS machines. Shift or Alt held down shows a prompt that takes the labels.
pub fn syslinux() -> String {
    let line = command_line();
    format!(
        "serial 0 115200
default vet
prompt 0
label vet
  kernel /live/vmlinuz
  append initrd=/live/initrd.zst {line}
label shell
  kernel /live/vmlinuz
  append initrd=/live/initrd.zst {line} vetting.shell
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_names_the_medium_and_both_consoles() {
        for (text, kernel) in [(grub(), "  linux "), (syslinux(), "  append ")] {
            let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(kernel)).collect();
            assert_eq!(lines.len(), 2, "{text}");
            for line in lines {
                for word in ["vetting.medium=VETTING", "console=tty0", "console=ttyS0,115200n8"] {
                    assert!(line.split(' ').any(|found| found == word), "{line}");
                }
                assert!(line.len() < 255, "BIOS boot loaders cut longer ones");
            }
        }
    }

    #[test]
    fn shells_are_only_in_the_entry_that_says_so() {
        assert_eq!(grub().matches("vetting.shell").count(), 1);
        assert_eq!(syslinux().matches("vetting.shell").count(), 1);
        assert!(syslinux().contains("default vet\n"));
    }
}
